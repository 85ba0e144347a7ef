"""Study how well volatility can be forecast, on recordings from many venues."""
