"""Programs that developers run: a local Kafka broker, a persistent simulated market, demos."""
