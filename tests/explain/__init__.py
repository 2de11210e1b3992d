"""Tests of explanations: a package, because it has a conftest of its own beside that of all tests."""
