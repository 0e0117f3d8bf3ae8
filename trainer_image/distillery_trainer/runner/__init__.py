"""What every stage has around it: how its process begins and ends, what it may touch, how it commits."""
