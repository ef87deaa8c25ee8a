// Package dist tests the packages that make dist makes (cmd/dist): it installs each on a clean
// tree, writes a database with what it has installed there, flushes it, and restores it with the
// tool that came along. To import a package proves nothing.
//
// make arm64 and make musl build what the tests of those names try, and say by a variable where.
//
// VERNEUIL_DIST is the directory of the packages; without it the tests are left out. With
// VERNEUIL_DIST_LONG, which make dist sets, the container's recipe makes an image of a bare Debian,
// with the Debian package in it, where there are debootstrap and buildah.
package dist
