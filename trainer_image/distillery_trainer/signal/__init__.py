"""What is kept of a teacher's knowledge, written and read side by side."""
