// Dist makes the packages of what make has built: a tarball, a wheel for pip, a package for npm,
// a Debian package, and a recipe for a container beside that. make dist runs it, and then test/dist
// installs each and uses it.
//
// Whatever stands in several packages stands once: definition.go has the names and the words,
// vfs.Version the version, platform.go what each ecosystem calls a processor, files/ what is
// written in the packages' own languages, with @NAMES@ for what is filled in.
//
// # Beliefs
//
// A package runs where its tag says. The tag of the wheel and the dependency of the Debian package
// are the newest version of glibc that the library or the tool asks its dynamic linker for
// (glibc.go): what stands in the files, not what they were built on. A C compiler of a newer system
// raises it, and the tag follows. What the linker does not see is not in it: the kernel's calls.
//
// Two runs on the same files make the same packages: names are in order, times are
// SOURCE_DATE_EPOCH's.
package main
