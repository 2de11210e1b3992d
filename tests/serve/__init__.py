"""Tests of the served page: a package, because it has a conftest of its own beside that of all tests."""
