//go:build race

package crash

const stride = 7
