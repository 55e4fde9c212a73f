//! The report as pictures: an SVG for each section of the table, a panel for each row.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::case::{Better, Case, Row};
use super::table::{number, summary};
use super::way::{SECTIONS, Section, Stack, Way};
use crate::report::Report;
use crate::samples::Summary;

/// Panels beside each other.
const COLUMNS: usize = 2;
/// Width of a panel, pixels.
const WIDTH: u32 = 560;
/// Height of a bar with its room.
const BAR: u32 = 26;
/// Height of a panel beyond its bars: title and axis.
const FRAME: u32 = 76;
/// Height above all panels: title, conditions.
const HEAD: u32 = 70;
/// Width of the names on the left of the bars.
const NAMES: u32 = 130;
/// How far the axis goes beyond the longest bar, so that its value fits.
const ROOM: f64 = 1.35;
/// Half of a bar's thickness, the distance between two bars being 1.
const HALF: f64 = 0.33;
const INK: RGBColor = RGBColor(40, 40, 40);
const GREY: RGBColor = RGBColor(120, 120, 120);
const FONT: &str = "sans-serif";

/// A row of the table as a panel shows it.
struct Panel {
    row: &'static Row,
    bars: Vec<(Way, Summary)>,
}

/// Draws all sections that have figures into `folder`; returns the files.
///
/// # Errors
/// A file cannot be written.
pub fn draw(report: &Report, folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    for section in &SECTIONS {
        let panels = panels(report, section);
        if !panels.is_empty() {
            let path = folder.join(format!("{}.svg", section.peers));
            draw_section(report, section, &panels, &path)?;
            files.push(path);
        }
    }
    Ok(files)
}

fn panels(report: &Report, section: &Section) -> Vec<Panel> {
    let mut panels = Vec::new();
    for &case in Case::value_variants()
        .iter()
        .filter(|case| section.has(**case))
    {
        for row in case
            .rows()
            .iter()
            .filter(|row| row.better != Better::Neither)
        {
            let bars = section.ways().into_iter();
            let bars: Vec<_> = bars
                .filter_map(|way| Some((way, summary(report, case, row, way)?)))
                .collect();
            if !bars.is_empty() {
                panels.push(Panel { row, bars });
            }
        }
    }
    panels
}

fn draw_section(
    report: &Report,
    section: &Section,
    panels: &[Panel],
    path: &Path,
) -> Result<(), Box<dyn Error>> {
    let bars = panels
        .iter()
        .map(|panel| panel.bars.len())
        .max()
        .unwrap_or(0) as u32;
    let height = FRAME + BAR * bars;
    let lines = panels.len().div_ceil(COLUMNS) as u32;
    let size = (WIDTH * COLUMNS as u32, HEAD + height * lines);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |size| TextStyle::from((FONT, size).into_font()).color(&INK);
    root.draw(&Text::new(section.title, (16, 12), text(17)))?;
    root.draw(&Text::new(
        conditions(report),
        (16, 38),
        text(12).color(&GREY),
    ))?;
    let (_, below) = root.split_vertically(HEAD);
    for (area, panel) in below
        .split_evenly((lines as usize, COLUMNS))
        .iter()
        .zip(panels)
    {
        draw_panel(area, panel)?;
    }
    root.present()?;
    Ok(())
}

fn conditions(report: &Report) -> String {
    let machine = report.machines.first();
    let machine = machine.map_or_else(String::new, |machine| {
        format!("{} x {}", machine.cpus, machine.cpu)
    });
    let quick = if report.quick {
        " QUICK RUN: the figures say nothing."
    } else {
        ""
    };
    format!(
        "{machine}, {}. Bars: medians of {} rounds; lines: least to greatest.{quick}",
        report.date.split('T').next().unwrap_or_default(),
        report.rounds
    )
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    panel: &Panel,
) -> Result<(), Box<dyn Error>> {
    let Panel { row, bars } = panel;
    let longest = bars
        .iter()
        .map(|(_, summary)| summary.max)
        .fold(0.0, f64::max);
    let count = bars.len();
    let direction = match row.better {
        Better::Less => "less is better",
        _ => "more is better",
    };
    let caption = format!("{}, {} ({direction})", row.title, unit(row.unit));
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 14).into_font().color(&INK))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..longest * ROOM, 0.0..count as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_labels(6)
        .x_label_formatter(&|value| axis_number(*value))
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .axis_style(GREY)
        .label_style((FONT, 11).into_font().color(&GREY))
        .draw()?;
    let text = |side| {
        let style = TextStyle::from((FONT, 12).into_font()).color(&INK);
        style.pos(Pos::new(side, VPos::Center))
    };
    // The first way is the uppermost bar.
    for (place, (way, summary)) in bars.iter().rev().enumerate() {
        let middle = place as f64 + 0.5;
        let color = color(way.stack);
        let bar = [(0.0, middle - HALF), (summary.median, middle + HALF)];
        chart.draw_series([Rectangle::new(bar, color.filled())])?;
        let spread = [(summary.min, middle), (summary.max, middle)];
        chart.draw_series([PathElement::new(spread, INK.stroke_width(2))])?;
        let value = number(row.unit, summary.median);
        let beside =
            EmptyElement::at((summary.max, middle)) + Text::new(value, (6, 0), text(HPos::Left));
        chart.draw_series([beside])?;
        let (_, y) = chart.backend_coord(&(0.0, middle));
        let top = area.get_base_pixel().1;
        area.draw(&Text::new(
            way.title(),
            (NAMES as i32, y - top),
            text(HPos::Right),
        ))?;
    }
    Ok(())
}

/// As people write it.
fn unit(unit: &str) -> &str {
    match unit {
        "us" => "µs",
        "/s" => "per second",
        other => other,
    }
}

/// A round number below an axis, with its thousands as k.
fn axis_number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value >= 10_000.0 => format!("{:.0}k", value / 1e3),
        value if value >= 10.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

/// The engine in a strong colour, the others in quiet ones.
fn color(stack: Stack) -> RGBColor {
    match stack {
        Stack::Engine => RGBColor(216, 90, 26),
        Stack::Quinn => RGBColor(94, 129, 172),
        Stack::Quiche => RGBColor(129, 161, 193),
        Stack::S2nQuic => RGBColor(76, 105, 140),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::scale::figures::Figures;

    #[test]
    fn a_section_with_figures_is_drawn_with_its_names_and_values() {
        let mut report = Report::begin(2, 1.0, false, BTreeMap::new());
        for (stack, medium, goodput) in [("quinn", "loopback", 8.25), ("engine", "link", 15.5)] {
            let mut figures = Figures::default();
            figures.add("goodput", "Gbit/s", goodput);
            report.add("bulk-1452", stack, medium, Ok(figures));
        }
        let folder = std::env::temp_dir().join(format!("stoq-plot-{}", std::process::id()));
        let files = draw(&report, &folder).unwrap();
        let svg = std::fs::read_to_string(&files[0]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(files.len(), 1, "the other sections have no figures");
        for text in ["quinn", "engine, link", "8.25", "15.50", "more is better"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
