"""The table of every step's losses, an artifact that grows: `steps.csv`."""

STEPS_CSV = "steps.csv"
HEADER = "arm,run,step,target_loss,refusal_loss,total_loss,best_total_loss\n"
