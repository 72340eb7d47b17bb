"""What a prompt asks for: one text into instructions, by rules, word lists or a language model. Text in, text out."""
