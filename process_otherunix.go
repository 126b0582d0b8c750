//go:build unix && !linux

// The name of a user, as gopsutil gives it for a process.

package flocklock

import (
	"os/user"
	"strconv"
)

// userName names a user as userOf does; "" where he has no name.
func userName(uid uint32) string {
	u, err := user.LookupId(strconv.Itoa(int(uid)))
	if err != nil {
		return ""
	}
	return u.Username
}
