"""What is trained when."""
