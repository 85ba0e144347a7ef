"""Answer with the forecasts of the stream: the newest, each new one, and those of the past."""
