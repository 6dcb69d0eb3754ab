"""What load a pipeline holds: a profile, a driver that loads it, a judge, and a report."""
