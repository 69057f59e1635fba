"""Firmware profiles: what a class of device can do, as data. Read with `shared.profiles.load_profile`.

`schema.json` is generated from `shared.profiles.Profile`; editors use it through the first line of each file.
"""
