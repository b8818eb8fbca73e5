# What each guest shows: README.md.
rv_guest(real BITS 16 FORMAT flat SOURCES real.c)
rv_guest(ends BITS 64 FORMAT flat SOURCES ends.c)
