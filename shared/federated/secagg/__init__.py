"""Secure aggregation: devices mask their updates so that the hub can only read the sum (Bonawitz 2017, Bell 2020).

One round has four stages, each a question of the hub to every device and its answer:

1. adverts: each device makes fresh keys and signs them with the key of its certificate;
2. shares: each device splits what would unmask it among its neighbours, encrypted for each of them;
3. inputs: each device trains and answers with its update under a mask of its own and one with each neighbour;
4. reveals: for each neighbour either the share of its own mask (it answered) or that of its masks with others (it did
   not), never both.

`hub.federated.secure` is the hub's half, `agent.training.secure` the device's.
"""
