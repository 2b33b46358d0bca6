"""Many runs by one command: which, where, on which device, and what became of them."""
