"""Boards behind a tracker."""
