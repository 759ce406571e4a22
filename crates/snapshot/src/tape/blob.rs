//! The interpreter of a tape, as machine code.
//!
//! It is copied into the first page of every tape, so that it may use nothing but registers, the
//! tape itself, and system calls: no stack, no other address of this program.
//!
//! `r12` points to the current entry and `r13`, `r14` to the text that says what it is about. All
//! three survive a call of a C function.

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.firn_tape, \"a\", @progbits",
    ".balign 64",
    // Seen by every part of the program, whichever part of this crate the compiler puts it in.
    ".globl firn_tape_blob_start",
    ".hidden firn_tape_blob_start",
    ".globl firn_tape_blob_end",
    ".hidden firn_tape_blob_end",
    "firn_tape_blob_start:",
    "2:",
    "mov rax, [r12]",
    "cmp rax, 0x10000",
    "jae 20f",
    "mov rdi, [r12 + 8]",
    "mov rsi, [r12 + 16]",
    "mov rdx, [r12 + 24]",
    "mov r10, [r12 + 32]",
    "mov r8, [r12 + 40]",
    "mov r9, [r12 + 48]",
    "syscall",
    // A new thread goes on with the entries that its stack names.
    "test rax, rax",
    "jnz 3f",
    "cmp qword ptr [r12], 435",
    "jne 3f",
    "mov r12, [rsp]",
    "jmp 2b",
    "3:",
    "mov rbx, [r12 + 56]",
    "cmp rax, rbx",
    "je 4f",
    "mov rcx, 0x8000000000000000",
    "cmp rbx, rcx",
    "je 5f",
    "inc rcx",
    "cmp rbx, rcx",
    "je 4f",
    // Connected, or under way.
    "inc rcx",
    "cmp rbx, rcx",
    "jne 90f",
    "test rax, rax",
    "jz 4f",
    "cmp rax, -115",
    "je 4f",
    "jmp 90f",
    "5:",
    "cmp rax, -4096",
    "ja 90f",
    "4:",
    "add r12, 64",
    "jmp 2b",
    // What is not a system call.
    "20:",
    "sub rax, 0x10000",
    "je 30f",
    "dec rax",
    "je 40f",
    "dec rax",
    "je 50f",
    "dec rax",
    "je 60f",
    "dec rax",
    "je 70f",
    "dec rax",
    "je 80f",
    "dec rax",
    "je 85f",
    "dec rax",
    "je 88f",
    "mov rax, -38",
    "jmp 90f",
    // Become the thread.
    "30:",
    "mov rsp, [r12 + 8]",
    "mov eax, 15",
    "syscall",
    "ud2",
    // Wait until the word is not zero.
    "40:",
    "mov rdi, [r12 + 8]",
    "cmp dword ptr [rdi], 0",
    "jne 4b",
    "mov eax, 202",
    "mov esi, 128",
    "xor edx, edx",
    "xor r10d, r10d",
    "syscall",
    "jmp 40b",
    // Set the word and wake everyone.
    "50:",
    "mov rdi, [r12 + 8]",
    "mov dword ptr [rdi], 1",
    "mov eax, 202",
    "mov esi, 129",
    "mov edx, 0x7fffffff",
    "syscall",
    "jmp 4b",
    // Count up; the last one wakes who gathers.
    "60:",
    "mov rdi, [r12 + 8]",
    "mov eax, 1",
    "lock xadd dword ptr [rdi], eax",
    "inc eax",
    "cmp eax, [r12 + 16]",
    "jne 4b",
    "mov eax, 202",
    "mov esi, 129",
    "mov edx, 1",
    "syscall",
    "jmp 4b",
    // Wait until the count is reached.
    "70:",
    "mov rdi, [r12 + 8]",
    "mov edx, [rdi]",
    "cmp edx, [r12 + 16]",
    "je 4b",
    "mov eax, 202",
    "mov esi, 128",
    "xor r10d, r10d",
    "syscall",
    "jmp 70b",
    // What the next entries are about.
    "80:",
    "mov r13, [r12 + 8]",
    "mov r14, [r12 + 16]",
    "jmp 4b",
    // Call a function on a given stack.
    "85:",
    "mov rsp, [r12 + 16]",
    "cld",
    "call qword ptr [r12 + 8]",
    "jmp 4b",
    // Go on with another tape, which has said nothing yet.
    "88:",
    "mov rax, [r12 + 8]",
    "mov r12, [r12 + 16]",
    "xor r13d, r13d",
    "xor r14d, r14d",
    "jmp rax",
    // Failure: write down what and why into the template at the start of the writable part, which
    // follows this page, and end.
    "90:",
    "lea rdi, [rip + firn_tape_blob_start + 4096 + 10]",
    "mov r15, rax",
    "mov eax, [r12]",
    "mov ebx, 10",
    "mov ecx, 4",
    "91:",
    "xor edx, edx",
    "div ebx",
    "add dl, 48",
    "mov [rdi], dl",
    "dec rdi",
    "dec ecx",
    "jnz 91b",
    "lea rdi, [rip + firn_tape_blob_start + 4096 + 25]",
    "mov rax, r15",
    "test rax, rax",
    "jns 92f",
    "neg rax",
    "mov byte ptr [rdi - 4], 45",
    "92:",
    "mov ecx, 4",
    "93:",
    "xor edx, edx",
    "div ebx",
    "add dl, 48",
    "mov [rdi], dl",
    "dec rdi",
    "dec ecx",
    "jnz 93b",
    "mov eax, 1",
    "mov edi, 907",
    "mov rsi, r13",
    "mov rdx, r14",
    "syscall",
    "mov eax, 1",
    "mov edi, 907",
    "lea rsi, [rip + firn_tape_blob_start + 4096]",
    "mov edx, 27",
    "syscall",
    "mov eax, 231",
    "mov edi, 99",
    "syscall",
    "ud2",
    "firn_tape_blob_end:",
    ".popsection",
);

/// What a failing entry writes after its text; the digits are filled in.
pub const REPORT: &[u8; 27] = b": call 0000 answered  0000\n";

/// The machine code.
#[cfg(target_arch = "x86_64")]
pub fn code() -> &'static [u8] {
    unsafe extern "C" {
        static firn_tape_blob_start: u8;
        static firn_tape_blob_end: u8;
    }
    let (start, end) = (
        &raw const firn_tape_blob_start,
        &raw const firn_tape_blob_end,
    );
    // SAFETY: the assembly above lays out everything between the two labels, as constants.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// The machine code; there is none for this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub fn code() -> &'static [u8] {
    &[]
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    #[test]
    fn the_interpreter_fits_its_page() {
        let code = super::code();
        assert!(code.len() > 100 && code.len() < 4096);
        assert_eq!(&code[..4], &[0x49, 0x8b, 0x04, 0x24]);
    }
}
