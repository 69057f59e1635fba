"""Running a bundle's models: one adapter around the TFLite runtime, used by devices, probes, gates and the build.

Rules: only `interpreter` imports the runtime; inputs are checked for type, shape, count and finiteness before they
reach it; weights of the head are always set before its first use; whatever the runtime throws comes out as an error
with a code. A file is not trusted here: unknown files are loaded in a child process (the installer's probe).
"""
