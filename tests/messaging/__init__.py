"""The broker, who may connect, what comes up and what goes down; real servers and real sockets."""
