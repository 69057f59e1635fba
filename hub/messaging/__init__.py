"""The hub's side of the broker: the child nats-server, who may connect, what comes up and what goes down."""
