//! A link of the manual leads somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::root;

fn pages(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let skipped = name.starts_with('.') || ["target", "node_modules"].contains(&name.as_str());
        if entry.file_type().unwrap().is_dir() && !skipped {
            self::pages(&entry.path(), pages);
        } else if name.ends_with(".md") {
            pages.push(entry.path());
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut all = Vec::new();
    pages(&root(), &mut all);
    assert!(!all.is_empty());
    for page in all {
        let text = fs::read_to_string(&page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap();
            let elsewhere = link.contains("://")
                || link.starts_with('#')
                || link.contains(' ')
                || link.starts_with('/');
            if !elsewhere && !file.is_empty() {
                assert!(
                    page.parent().unwrap().join(file).exists(),
                    "{}: no {link}",
                    page.display()
                );
            }
        }
    }
}
