#!/usr/bin/env python3
"""A disk in memory with a write cache that a power cut empties at random.

    scripts/volatile_disk.py FOLDER MEGABYTES

FOLDER gets the file `disk`, for a loop device with direct I/O. What is written stays in the cache until the file is
synced, which is what a loop device does when the file system on it asks for a barrier. The file `control` takes a word:

    cut SEED    each write in the cache reaches the disk or does not, some in part; what comes after is thrown away
    on          the power is back; the disk holds what the cut left

Needs mfusepy (PyPI) and libfuse 3; root, or /dev/fuse for others.
"""
import errno
import random
import stat
import sys

import mfusepy

SECTOR = 512


class Disk(mfusepy.Operations):
    use_ns = True

    def __init__(self, n_bytes):
        self.safe, self.seen, self.cache, self.is_on = bytearray(n_bytes), bytearray(n_bytes), [], True

    def getattr(self, path, fh=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path == "/disk":
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": len(self.safe)}
        if path == "/control":
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": 0}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def readdir(self, path, fh):
        return [".", "..", "disk", "control"]

    def truncate(self, path, length, fh=None):
        pass

    def read(self, path, size, offset, fh):
        return bytes(self.seen[offset:offset + size]) if path == "/disk" else b""

    def write(self, path, data, offset, fh):
        if path == "/control":
            return self.obey(data)
        if self.is_on:
            self.seen[offset:offset + len(data)] = data
            self.cache.append((offset, data))
        return len(data)

    def fsync(self, path, datasync, fh):
        if path == "/disk" and self.is_on:
            for offset, data in self.cache:
                self.safe[offset:offset + len(data)] = data
            self.cache.clear()

    def obey(self, data):
        word, _, seed = data.decode().strip().partition(" ")
        if word == "on":
            self.is_on = True
        elif word == "cut":
            self.cut(random.Random(int(seed)))
        else:
            raise mfusepy.FuseOSError(errno.EINVAL)
        return len(data)

    def cut(self, rng):
        # From nothing to nearly everything, so that every share of the cache is tried.
        share = rng.random()
        for offset, data in self.cache:
            if rng.random() >= share:
                continue
            # A sector is written whole or not at all.
            kept = len(data) if rng.random() < 0.8 else rng.randrange(len(data) // SECTOR + 1) * SECTOR
            self.safe[offset:offset + kept] = data[:kept]
        self.seen[:] = self.safe
        self.cache.clear()
        self.is_on = False


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    disk = Disk(int(sys.argv[2]) << 20)
    # One thread: what reaches the disk has an order.
    mfusepy.FUSE(disk, sys.argv[1], foreground=True, nothreads=True)
