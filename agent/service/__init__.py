"""Running under systemd: the unit file and the notifications that its watchdog waits for."""
