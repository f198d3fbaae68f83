"""How a study reaches machines: command lines, scripts and manifests.

Nothing here imports jax: what a launcher starts does.
"""
