"""Commands about boards behind a tracker."""
