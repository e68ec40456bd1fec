"""The servers that are compared: each a file that starts it, and beside it what runs inside its process."""
