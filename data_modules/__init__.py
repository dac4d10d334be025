"""Where samples come from: shards, batches and LightningDataModules."""
