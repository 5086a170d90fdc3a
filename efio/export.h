#pragma once

// Marks what the shared library shows; everything else is compiled with hidden visibility. In a static library, and
// in a program that uses either, it changes nothing.
#define EFIO_EXPORT __attribute__((visibility("default")))
