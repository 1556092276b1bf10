/** What both RocksDB adapters are opened with. */
export type RocksDbOptions = {
  /** Made if it does not exist. */
  readonly directory: string;
  /**
   * Of the block cache; ENGINE_CACHE_SIZE_BYTES_DEFAULT if absent. Beside it, RocksDB fills up to two
   * memtables of 64 MiB each while writes go on.
   */
  readonly cacheSizeBytes?: number;
};
