package dburl

import "syscall"

// userTimeout is TCP_USER_TIMEOUT of RFC 5482, see tcp(7).
const userTimeout = 18

func setUserTimeout(fd uintptr, ms int) error {
	return syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, ms)
}
