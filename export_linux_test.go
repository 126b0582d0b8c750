package flocklock

var HasFlock = hasFlock

// ParseStat shows what is read of /proc/PID/stat.
func ParseStat(text []byte) (state byte, start int64, oddName, ok bool) {
	s, ok := parseStat(text)
	return s.state, s.start, s.oddName, ok
}
