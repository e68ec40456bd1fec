"""The demonstration: the whole line on one data set, side by side with what a team would run otherwise."""
