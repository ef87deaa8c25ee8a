"""The script verneuilctl: the tool of this package, in this process's place."""
import os
import sys


def main():
    tool = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "verneuilctl")
    os.execv(tool, [tool] + sys.argv[1:])
