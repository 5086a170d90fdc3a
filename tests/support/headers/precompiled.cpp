// Nothing but the precompiled headers of the tests is made of this file.
