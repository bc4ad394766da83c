"""Tools of the checkout that the wheel does not hold: the model zoo, digests of libraries, mutants."""
