"""Takes the dependencies from requirements.txt, less its development block."""

from pathlib import Path

from setuptools import setup

lines = Path(__file__).with_name('requirements.txt').read_text('utf-8')
package = lines.partition('# --- development')[0].splitlines()
setup(install_requires=[line for line in package if line[:1] not in ('', '#')])
