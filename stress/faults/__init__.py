"""Faults of one server: killed, frozen and starved processes, full disks and queues."""
