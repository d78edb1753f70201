"""What etcd's members, users and snapshots need beside etcd itself. Standard library only."""
