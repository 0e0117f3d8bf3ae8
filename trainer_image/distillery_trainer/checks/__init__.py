"""What can be known before anything is made: preflight's own."""
