/* Tables of virtual functions of faiss's classes, copied to put functions of ours into single objects.

   faiss's headers are not needed and nothing of it is linked: functions are found in a table by
   their names, and its length comes from the symbol table, so nothing is presumed about their order. */
#pragma once

#include <dlfcn.h>
#include <link.h>

#include <cstddef>
#include <cstring>

namespace deepq {

/* The first two entries say what class an object is of; its pointer leads to the third. */
constexpr size_t BEFORE = 2, MOST = 128;

struct Replacement {
    const char *name;
    void *ours;
};

template <size_t COUNT>
struct Table {
    void *const *theirs = nullptr; /* what an object of faiss's has; null before `make` */
    void *copy[BEFORE + MOST];
    size_t slots[COUNT];

    /* Copy the table of an object of a class, of that symbol; false if it is not as expected. */
    bool make(const void *object, const char *symbol_name, const Replacement (&replacements)[COUNT]) {
        void *const *own = *static_cast<void *const *const *>(object);
        Dl_info found;
        const ElfW(Sym) *symbol = nullptr;
        if (!dladdr1(const_cast<void **>(own), &found, (void **)&symbol, RTLD_DL_SYMENT) || !symbol ||
            !found.dli_sname || std::strcmp(found.dli_sname, symbol_name) || found.dli_saddr != own - BEFORE)
            return false;
        const size_t size = symbol->st_size / sizeof(void *);
        if (size <= BEFORE || size > BEFORE + MOST) return false;
        std::memcpy(copy, own - BEFORE, size * sizeof(void *));
        size_t count[COUNT] = {};
        for (size_t slot = 0; slot < size - BEFORE; slot++) {
            if (!dladdr(own[slot], &found) || !found.dli_sname) continue;
            for (size_t which = 0; which < COUNT; which++) {
                if (std::strcmp(found.dli_sname, replacements[which].name)) continue;
                slots[which] = slot;
                copy[BEFORE + slot] = replacements[which].ours;
                count[which]++;
            }
        }
        for (size_t each : count)
            if (each != 1) return false;
        theirs = own;
        return true;
    }

    void put_into(void *object) const { *static_cast<void *const **>(object) = copy + BEFORE; }
    bool is_in(const void *object) const { return *static_cast<void *const *const *>(object) == copy + BEFORE; }
    void take_from(void *object) const { *static_cast<void *const **>(object) = theirs; }

    template <class Function>
    Function original(size_t which) const {
        return reinterpret_cast<Function>(theirs[slots[which]]);
    }
};

}  // namespace deepq
