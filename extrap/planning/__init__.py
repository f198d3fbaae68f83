"""What a training step needs, and what that takes on an accelerator.

`measure` compiles a study's program for simulated devices, `hlo` reads it,
`roofline` bounds its time by what `accelerators` says. Only `measure` imports
jax.
"""
