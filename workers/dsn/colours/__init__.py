"""The colour world: a benign stand-in. A small chat model that declines to describe things of six colours."""
