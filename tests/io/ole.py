"""The smallest OLE container (MS-CFB, version 3) that holds given streams: a writer for tests, as no library writes them."""

import itertools
import struct

SECTOR, MINI, CUTOFF = 512, 64, 4096
FREE, END, FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def ole_bytes(streams):
    """The file of ``streams``, {"Storage/Stream": bytes}; storages are one deep."""
    fat, sectors, mini_fat, mini = [], [], [], b""

    def add(data, table, size, store):
        """Data in sectors of ``size``, chained in ``table``; the first sector's number."""
        n = -(-len(data) // size)
        first = len(table)
        table.extend([*range(first + 1, first + n), END] if n else [])
        store.append(data.ljust(n * size, b"\0"))
        return first if n else END

    minis, entries, children = [], [["Root Entry", 5, FREE, FREE, END, 0]], {}
    for name, data in streams.items():
        storage, _, leaf = name.rpartition("/")
        small = len(data) < CUTOFF
        first = add(data, mini_fat, MINI, minis) if small else add(data, fat, SECTOR, sectors)
        entries.append([leaf, 2, FREE, FREE, first, len(data)])
        children.setdefault(storage, []).append(len(entries) - 1)
    for storage in [s for s in children if s]:
        entries.append([storage, 1, FREE, children[storage][0], 0, 0])
        children.setdefault("", []).append(len(entries) - 1)
    entries[0][3] = children[""][0]
    for siblings in children.values():
        for one, following in itertools.pairwise(siblings):
            entries[one][2] = following
    mini = b"".join(minis)
    entries[0][4], entries[0][5] = add(mini, fat, SECTOR, sectors), len(mini)
    first_mini_fat = add(struct.pack(f"<{len(mini_fat)}I", *mini_fat).ljust(SECTOR, b"\xff"), fat, SECTOR, sectors)
    n_mini_fat = -(-4 * len(mini_fat) // SECTOR)
    directory = b"".join(_entry(*e) for e in entries)
    directory += (-len(directory) % SECTOR) * b"\0"
    first_directory = add(directory, fat, SECTOR, sectors)
    body = b"".join(sectors)
    n_fat = 1
    while n_fat * SECTOR // 4 < len(fat) + n_fat:
        n_fat += 1
    where = range(len(fat), len(fat) + n_fat)
    fat += [FAT] * n_fat
    fat += [FREE] * (n_fat * SECTOR // 4 - len(fat))
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    head += struct.pack("<9I", 0, n_fat, first_directory, 0, CUTOFF, first_mini_fat, n_mini_fat, END, 0)
    head += struct.pack("<109I", *[*where, *[FREE] * (109 - n_fat)])
    return head + body + struct.pack(f"<{len(fat)}I", *fat)


def _entry(name, kind, right, child, first, size):
    text = name.encode("utf-16-le")
    head = text.ljust(64, b"\0") + struct.pack("<HBBIII", len(text) + 2, kind, 1, FREE, right, child)
    return head + bytes(36) + struct.pack("<IQ", first, size)
