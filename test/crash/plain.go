//go:build !race

package crash

const stride = 1
