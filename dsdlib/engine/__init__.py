"""Many runs trained at once: a stack of same-shaped networks, pruned and retrained round by round on one device."""
