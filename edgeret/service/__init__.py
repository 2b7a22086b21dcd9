"""Service: an index for other programs of this machine, over stdio or HTTP, by libraries that extras bring."""
