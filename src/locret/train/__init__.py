"""Training retaining heads on a frozen backbone."""
