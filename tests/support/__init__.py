"""What several test files share. pytest puts ``tests`` on the path, so that ``from support.bits import ...`` works."""
