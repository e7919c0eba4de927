"""The durable record: one row per exchange, who used what and what it cost."""
