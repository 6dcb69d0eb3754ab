"""What a user deploys, and clusters of one machine for trying it. None of it is shipped."""
