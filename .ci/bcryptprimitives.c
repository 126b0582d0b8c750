// Go programs since 1.22 take their random numbers from ProcessPrng of
// bcryptprimitives.dll, which Wine 8 lacks; this is that one function, over
// the generator that Wine has. See .ci/wine.
#include <windows.h>

// advapi32 exports RtlGenRandom under this name only.
BOOLEAN WINAPI SystemFunction036(PVOID buffer, ULONG size);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
	while (size > 0) { // the one counts in 64 bits, the other in 32
		ULONG n = size < 0x10000000 ? (ULONG)size : 0x10000000;
		if (!SystemFunction036(data, n))
			return FALSE;
		data += n;
		size -= n;
	}
	return TRUE;
}
