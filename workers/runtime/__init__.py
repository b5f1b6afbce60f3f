"""What every job runs through: claim, context, heartbeat, commit."""
